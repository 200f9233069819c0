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
