"""What several docstrings say, written once; the decorator `documented` puts it into the numpydoc docstrings.

A line ``%(parameters)s`` becomes the entries of all parameters, in the order of the signature. A line ``%(name)s`` becomes another text.
``help()``, doctest and the API pages show the complete text. SciPy composes its docstrings in the same way (``scipy._lib.doccer``).
"""

import inspect
import re
from types import FunctionType

PARAMETERS = {
    "input": """\
input : array_like, shape (C,), (N, C) or (N, C, d1, ..., dK)
    Logits of dtype float16, bfloat16 (``ml_dtypes``), float32 or float64, with any strides. The arithmetic for float16 and bfloat16 is
    in float32.""",
    "grad_output": """\
grad_output : float or array_like
    Gradient of the loss: an array of the loss's shape, or one number.""",
    "target": """\
target : array_like
    Class numbers of any integer dtype or bool, of input's shape without the class axis; or probabilities (one-hot included): floats
    of input's shape.""",
    "weight": """\
weight : array_like, shape (C,), optional
    Class weights.""",
    "ignore_index": """\
ignore_index : int, default -100
    Rows with this target do not count: their loss is 0 and their gradient is exactly 0, whatever their logits are.""",
    "reduction": """\
reduction : {"mean", "sum", "none"}, default "mean"
    "mean" divides by the total weight of the rows that count (probabilities: by the number of rows), or by ``divisor``. None means
    "none".""",
    "label_smoothing": """\
label_smoothing : float in [0, 1], default 0.0
    The part e of the target that is spread evenly over all classes: Szegedy et al., "Rethinking the Inception Architecture for Computer
    Vision" (2015), https://arxiv.org/abs/1512.00567.""",
    "lse_square_scale": """\
lse_square_scale : float, default 0.0
    A finite number, at least 0. Adds lse_square_scale * M_i * L_i^2 to the loss l_i, and 2 * lse_square_scale * M_i * L_i * p_ic to its
    gradient: L_i = log sum_c exp(x_ic), and M_i is the row's total target weight (w[y_i] for plain class numbers). This is the z-loss of
    Chowdhery et al., "PaLM: Scaling Language Modeling with Pathways" (2022), https://arxiv.org/abs/2204.02311; FlashAttention and Liger
    Kernel use this name.""",
    "softcap": """\
softcap : float, optional
    A positive finite number k: the loss is that of k * tanh(x / k), whose size is below k. -inf stays -inf, a class without probability.
    Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size" (2024), https://arxiv.org/abs/2408.00118.""",
    "logit_scale": """\
logit_scale : float, default 1.0
    A positive finite number a that multiplies the logits, before a ``softcap``: 1 / temperature. The gradient is that with respect to
    ``input``. FlashAttention uses this name.""",
    "gamma": """\
gamma : float, default 2.0
    A finite number, at least 0: how much less a row counts, the surer it is of its target. 0 is `cross_entropy`.""",
    "sample_weight": """\
sample_weight : array_like, shape of the loss, optional
    A weight for each row, of any real dtype: it multiplies the row's loss, its gradient, and its part of what "mean" divides by (the
    weighted mean of scikit-learn; Keras divides by the number of rows, ``divisor=N``). A row with weight 0 has loss 0 and gradient exactly
    0, whatever its logits are. Weights of ignored rows are not read. Weights may be negative; a "mean" over weights of negative sum
    is nan.""",
    "divisor": """\
divisor : float, optional
    What "mean" divides by, a positive finite number, such as the number of targets in all micro-batches of a step. None is the default
    of ``reduction``.""",
    "empty": """\
empty : {"nan", "zero"}, default "nan"
    What a "mean" is where its divisor is 0: if no row counts, or all weights are 0. With "zero" its gradients are 0, too.""",
    "temperature": """\
temperature : float, default 1.0
    T, a positive finite number that divides both arrays of logits.""",
    "dim": """\
dim : int, default -1
    The axis of the classes.""",
    "dtype": """\
dtype : dtype, optional
    Convert the input to this dtype first; the result has it too.""",
    "out": """\
out : ndarray, optional
    The array that the gradient is written to, of input's shape and dtype, with any strides that give each element a place of its own. It
    may be ``input`` itself, but may not overlap any argument otherwise. On a GPU, it is in C order.""",
    "device": """\
device : str, optional
    "cpu", "cuda" or "cuda:<index>". None computes where the arrays are; NumPy arrays use the default device.""",
    "reuse_grad": """\
reuse_grad : bool, default False
    Write each gradient into the array of the previous one, if shape and dtype are the same. What `backward` returned is then
    overwritten by the next `backward`. This saves the page faults of large new arrays (docs/performance.md).""",
    "size_average": """\
size_average : bool, optional
    Deprecated by torch; overrides ``reduction``. False means "sum".""",
    "reduce": """\
reduce : bool, optional
    Deprecated by torch; overrides ``reduction``. False means "none".""",
}

TEXTS = {
    "returns_loss": """\
floating or ndarray
    The loss: one number ("mean", "sum"), or one per row ("none"). Its dtype is input's; float32 for float16 and bfloat16.""",
    "returns_gradient": """\
ndarray, shape of input
    The gradient, in input's dtype.""",
    "returns_both": """\
loss : floating or ndarray
    The loss alone, as the function without the gradient returns it.
grad : ndarray, shape of input
    The gradient of grad_output times the loss (for "none": of the sum of these products) with respect to ``input``, in input's dtype.""",
    "raises": """\
Raises
------
IndexError
    If a target is neither in [0, C) nor ``ignore_index``. The message has its value, its index, C, and how many such targets there are.
TypeError
    If the logits are not floating-point, class numbers are floating-point, or an option is not of its type.
ValueError
    If shapes, options or ``out`` do not fit. No error leaves anything written.""",
    "keeps_references": """\
The module keeps references to the last forward's input and target for `backward`: do not overwrite them in between.""",
}


HIDDEN = "axis"  # a parameter that exists to be refused with a hint (_options.refused_axis): help(), stubs and docstrings do not have it


def _signature(function):
    """The signature that help() shows."""
    whole = inspect.signature(function)
    return whole.replace(parameters=[p for name, p in whole.parameters.items() if name != HIDDEN])


def documented(**entries):
    """A decorator that fills the docstring of a function or a class. ``entries`` replace those of `PARAMETERS` and `TEXTS`."""

    def fill(target):
        function = target if isinstance(target, FunctionType) else target.__init__
        function.__signature__ = _signature(function)
        if target.__doc__ is None:  # python -OO
            return target
        names = [name for name in function.__signature__.parameters if name != "self"]
        known, texts = PARAMETERS | entries, TEXTS | entries

        def text(line):
            whole = "\n".join(known[name] for name in names) if line[2] == "parameters" else texts[line[2]]
            return "\n".join(line[1] + part for part in whole.split("\n"))

        target.__doc__ = re.sub(r"^( *)%\((\w+)\)s$", text, target.__doc__, flags=re.MULTILINE)
        return target

    return fill
