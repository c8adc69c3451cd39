"""mmrag on Ray Serve: each component a deployment of its own, behind one HTTP API."""
