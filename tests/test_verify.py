import math

import pytest

from ollama_ft.stages.verify import distance_to


def logs(**chances):
    return {token: math.log(chance) for token, chance in chances.items()}


@pytest.mark.parametrize(
    ("told", "trained", "distance"),
    [
        ({"a": 0.6, "b": 0.4}, logs(a=0.6, b=0.4), 0.0),
        ({"a": 1.0}, logs(b=1.0), 1.0),
        ({"a": 0.8, "b": 0.2}, logs(a=0.5, b=0.5), 0.3),
        # 0.5 * (|0.7 - 0.5| + |0.3 - 0.5| for all the tokens that were not told)
        ({"a": 0.7}, logs(a=0.5, b=0.25, c=0.25), 0.2),
        ({}, logs(a=1.0), 1.0),
    ],
)
def test_distance_is_total_variation_with_one_place_for_all_untold_tokens(told, trained, distance):
    assert distance_to(told, trained) == pytest.approx(distance)
