"""Draws are uniform, normal, independent, and the same however they are cut and wherever they are drawn."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import gan_distributed
from gan_distributed import randomness
from gan_distributed.randomness import Draws, key_of, mix, mix_tensor, permutation

PINNED = ["-0x1.dda76ae9d743dp-1", "0x1.9395144404e9cp+0", "0x1.597d4f9a69020p-1"]
PACKAGE = Path(gan_distributed.__file__).parent
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def draws(num: int, *purpose: int | str, start: int = 0, device: str = "cpu") -> Draws:
    return Draws(key_of(1, *purpose), torch.arange(start, start + num, device=device))


def test_uniform_numbers_are_uniform_along_positions_and_elements():
    numbers = draws(2000, "a").uniform(50).numpy()
    assert numbers.min() > 0
    assert numbers.max() < 1
    for line in (numbers[:, 0], numbers[0], numbers.ravel()):
        assert stats.kstest(line, "uniform").pvalue > 1e-3


def test_normal_numbers_are_normal():
    numbers = draws(4000, "b").normal(51).numpy()
    assert stats.kstest(numbers.ravel(), "norm").pvalue > 1e-3
    assert stats.kstest(numbers[:, -1], "norm").pvalue > 1e-3
    assert abs(stats.kurtosis(numbers.ravel())) < 0.05
    # 204,000 numbers reach beyond 4.
    assert np.abs(numbers).max() > 4


@pytest.mark.parametrize("limit", [0.05, 0.5, 2.0, 50.0])
def test_truncated_normal_numbers_are_normal_within_the_limit(limit):
    numbers = draws(2000, "i").truncated_normal(limit, 20)
    assert float(numbers.abs().max()) <= limit
    assert stats.kstest(numbers.numpy().ravel(), stats.truncnorm(-limit, limit).cdf).pvalue > 1e-3
    assert stats.kstest(numbers.numpy()[:, -1], stats.truncnorm(-limit, limit).cdf).pvalue > 1e-3
    assert torch.equal(draws(1000, "i", start=500).truncated_normal(limit, 20), numbers[500:1500])


@pytest.mark.parametrize("other", ["purpose", "position", "element"])
def test_draws_are_independent(other):
    numbers = draws(20_000, "c").normal(2).numpy()
    pair = {
        "purpose": (numbers[:, 0], draws(20_000, "d").normal(2).numpy()[:, 0]),
        "position": (numbers[:-1, 0], numbers[1:, 0]),
        "element": (numbers[:, 0], numbers[:, 1]),
    }[other]
    assert abs(np.corrcoef(*pair)[0, 1]) < 4 / 20_000**0.5
    assert abs(np.corrcoef(pair[0] ** 2, pair[1] ** 2)[0, 1]) < 4 / 20_000**0.5


@pytest.mark.parametrize("device", DEVICES)
@given(cut=st.integers(0, 40), size=st.integers(1, 70))
@settings(max_examples=30, deadline=None)
def test_a_row_depends_on_its_position_alone(device, cut, size):
    whole = draws(40, "e")
    parts = [draws(cut, "e", device=device), draws(40 - cut, "e", start=cut, device=device)]
    for method in ("bits", "uniform", "normal"):
        joined = torch.cat([getattr(part, method)(size).cpu() for part in parts])
        assert torch.equal(joined, getattr(whole, method)(size))


def test_integers_and_keep_follow_their_probabilities():
    counts = torch.bincount(draws(30_000, "f").integers(10), minlength=10)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    assert abs(float(draws(30_000, "g").keep(0.3).double().mean()) - 0.3) < 0.01


def test_hash_is_the_same_in_python_numpy_and_torch():
    values = [0, 1, 2**63, 2**64 - 1, 0x123456789ABCDEF0]
    signed = torch.tensor([value - 2**64 if value >> 63 else value for value in values])
    assert [found % 2**64 for found in mix_tensor(signed).tolist()] == [mix(value) for value in values]
    # The first output of SplitMix64 from state 0, as its authors' reference implementation prints it.
    assert mix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF


def test_tensors_and_arrays_give_the_same_numbers(monkeypatch):
    """Another device computes with torch. On this one its square root may differ in the last bit, nothing else may."""
    uniform = draws(100, "h").uniform(64)
    assert torch.equal(torch.from_numpy(randomness._log(uniform.numpy())), randomness._log(uniform))
    assert torch.equal(torch.from_numpy(randomness._cos_turns(uniform.numpy())), randomness._cos_turns(uniform))
    normal = draws(100, "h").normal(33)
    monkeypatch.setattr(randomness, "_from_tensor", lambda values: values)
    assert torch.equal(draws(100, "h").uniform(64), uniform)
    torch.testing.assert_close(draws(100, "h").normal(33), normal, rtol=1e-15, atol=0)


def test_normal_numbers_never_change():
    """A change would start other networks, and train those that are resumed on other latents."""
    found = [number.hex() for number in draws(1, "pinned", start=7).normal(3)[0].tolist()]
    assert found == PINNED


def test_permutation_never_changes():
    """A change would reorder the images of every run that is resumed."""
    assert permutation(key_of(0, "lanes"), 8).tolist() == [0, 3, 1, 7, 6, 2, 4, 5]
    assert sorted(permutation(3, 1000).tolist()) == list(range(1000))


def test_models_and_training_draw_from_nowhere_else():
    """Dropout modules and torch's global generator would depend on the rank and on what ran before."""
    forbidden = {"Dropout", "Dropout2d", "dropout", "rand", "randn", "randint", "randperm", "rand_like", "randn_like"}
    forbidden |= {
        "manual_seed",
        "bernoulli",
        "bernoulli_",
        "normal_",
        "uniform_",
        "multinomial",
        "random_",
        "default_rng",
    }
    paths = [*PACKAGE.glob("models/*.py"), *PACKAGE.glob("training/*.py"), *PACKAGE.glob("pictures/*.py")]
    # Users' layers start themselves; there the global generator is seeded, and given back as it was.
    paths.remove(PACKAGE / "models" / "own_networks.py")
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            assert name not in forbidden, f"{path.name}:{node.lineno} draws with {name}"
