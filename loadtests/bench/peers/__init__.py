"""One small server for each peer, as its documentation sets one up; they run in environments of their own."""
