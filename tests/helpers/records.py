"""Records of races as `timing.race` makes them, with made-up times."""

FACTS = {
    "date": "2026-01-02T03:04:05Z", "processor": "Abacus, two wires", "cpus": 2, "python": "3.11.0", "threads": {"numba": 2},
    "versions": {"nbloss": "0.1.0", "numpy": "2.0.0"}, "others_cpus": None,
}  # fmt: skip


def record(operation="cross_entropy", shape="7x5", dtype="float32", yardstick="read", **seconds):
    contenders = {
        n: {"seconds": s, "low": s * 0.99, "high": s * 1.01, "calls": 9, "to_yardstick": s / seconds[yardstick],
            "to_nbloss": s / seconds["nbloss"] if "nbloss" in seconds else None}
        for n, s in seconds.items()
    }  # fmt: skip
    return {"operation": operation, "shape": shape, "dtype": dtype, "threads": 2, "yardstick": yardstick, "bytes": 140,
            "rounds": 7, "contenders": contenders}  # fmt: skip


def variant(operation="cross_entropy_value_and_grad", name="weight", shape="32x10", ratio=1.5, limit=1.15, to_torch=2.0, **more):
    """A record as `variants.race.measure` makes it. Without a ratio or `to_torch`, give the contender that has the reason."""
    contenders = {who: {"seconds": s, "low": s, "high": s, "calls": 9} for who, s in (("nbloss", 2e-3), ("plain", 1e-3), ("torch", 4e-3))}
    return {"operation": operation, "variant": name, "shape": shape, "dtype": "float32", "threads": 2, "limit": limit, "ratio": ratio,
            "low": ratio and ratio * 0.9, "high": ratio and ratio * 1.1, "to_torch": to_torch, "rounds": 5,
            "contenders": contenders | more}  # fmt: skip
