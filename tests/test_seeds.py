from dataclasses import dataclass, field

from xraysynth.seeds import derive_seed, digest, identity, short_digest


def test_a_seed_depends_on_the_root_and_every_part_of_the_path():
    seeds = {
        derive_seed(0, "covid19", 3),
        derive_seed(1, "covid19", 3),
        derive_seed(0, "normal", 3),
        derive_seed(0, "covid19", 4),
        derive_seed(0, "covid19", "3"),
        derive_seed(0, "covid19"),
    }
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_are_the_same_on_every_machine():
    # A change here would silently change every image and split ever made.
    assert derive_seed(0, "covid19", 3) == 340379322945862851


def test_digest_ignores_the_order_of_keys_only():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    assert short_digest("x") == digest("x")[:12]


def test_identity_leaves_out_what_does_not_decide_pixels():
    @dataclass(frozen=True)
    class Made:
        steps: int = 1
        batch_size: int = field(default=8, metadata={"identity": False})

    assert (
        identity(Made(batch_size=2)) == identity(Made(batch_size=4)) == {"type": "Made", "steps": 1}
    )
    assert identity(Made(steps=2)) != identity(Made())
