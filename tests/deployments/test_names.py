from pathlib import Path

import pytest
from ray.serve import Deployment

from deployments import app
from deployments.names import NAMES, check_names
from mmrag.errors import ConfigurationError

CONFIG = Path("serve_config.yaml")


def test_these_are_the_names_of_the_deployments():
    assert {value.name for value in vars(app).values() if isinstance(value, Deployment)} == set(NAMES)
    check_names(NAMES, CONFIG)


@pytest.mark.parametrize(
    ("name", "mend"), [("FusionDecodr", r" \(did you mean 'FusionDecoder'\?\)"), ("Oven", "; there are TextEncoder, ")]
)
def test_another_name_is_refused_with_the_one_that_was_meant(name, mend):
    with pytest.raises(ConfigurationError, match=rf"^serve_config.yaml: there is no deployment '{name}'{mend}"):
        check_names(["Ingress", name], CONFIG)
