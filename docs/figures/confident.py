"""Draw the relative error of the loss of a confident row, for three formulas in float32.

    python docs/figures/confident.py          needs matplotlib and NumPy; writes confident.svg

The row has 10 classes: the target's logit is ``margin`` above nine random ones. The reference is the last formula
in float64.
"""

import numpy as np
from canvas import GREY, panels, save

F = np.float32
MARGINS = np.linspace(1, 24, 93)
FORMULAS = {
    "m + log s - x[y]": lambda x, m: (m + np.log(np.exp(x - m).sum(dtype=F), dtype=F)) - x[0],
    "log s + (m - x[y])": lambda x, m: np.log(np.exp(x - m).sum(dtype=F), dtype=F) + (m - x[0]),
    "log1p(rest) + (m - x[y])": lambda x, m: np.log1p(np.exp(x[1:] - m).sum(dtype=F), dtype=F) + (m - x[0]),
}


def main():
    rng = np.random.default_rng(0)
    worst = {name: [] for name in FORMULAS}
    for margin in MARGINS:
        errors = {name: 0.0 for name in FORMULAS}
        for _ in range(200):
            x = np.concatenate([[margin], rng.uniform(-1, 0, 9)]).astype(F) + F(rng.uniform(-3, 3))
            wide = x.astype(np.float64)
            exact = np.log1p(np.exp(wide[1:] - wide[0]).sum())
            for name, formula in FORMULAS.items():
                errors[name] = max(errors[name], abs(float(formula(x, x[0])) - exact) / exact)
        for name in FORMULAS:
            worst[name].append(errors[name])
    figure, axes = panels(height=3.9)
    for (name, values), colour in zip(worst.items(), ["#b3402a", "#c98a1b", "#2466a8"], strict=True):
        axes.semilogy(MARGINS, values, color=colour, linewidth=1.8, label=name)
    axes.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
    axes.set(xlabel="margin: the target's logit above the others", ylabel="largest relative error of the loss", ylim=(1e-8, 100))
    axes.legend(loc="center right", bbox_to_anchor=(1, 0.36))
    save(figure, "confident")


if __name__ == "__main__":
    main()
