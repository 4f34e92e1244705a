"""A category as an input: a binary for each, by its name, and the number that the network takes."""

from __future__ import annotations

from typing import Any

from pyomo.environ import Binary, Block, Constraint, Var, quicksum

from pyomo_relu.base.suggest import did_you_mean


def category_choice(estimator: Any, feature: Any) -> Block:
    r"""Return the choice of one category of a feature that an encoder of scikit-learn reads.

    .. math:: \sum_c u_c = 1, \qquad x = \sum_c x_c u_c, \qquad u_c \in \{0, 1\}

    with the number :math:`x_c` that the network takes for category :math:`c`: a number itself,
    text as its position among the sorted categories.

    Parameters
    ----------
    estimator : scikit-learn estimator
        Fitted, the one that is read as the network: a pipeline or ColumnTransformer with a
        ``OneHotEncoder``, ``OrdinalEncoder`` or ``TargetEncoder``.
    feature : str or int
        The column: its name, or its position where the estimator was fitted on an array.

    Returns
    -------
    Block
        To be assigned to the model: ``m.grade = category_choice(pipeline, "grade")``.
        ``m.grade.number`` is the network's input, ``m.grade.chosen["red"]`` the binary of a
        category; fix it, or use it in rows.

    Raises
    ------
    ValueError
        For an estimator that can't be read, and a feature that no encoder reads.
    """
    from pyomo_relu.readers.sklearn import read_categories

    known = read_categories(estimator)
    if feature not in known:
        names = [str(name) for name in known]
        raise ValueError(
            f"no encoder of {type(estimator).__name__} reads a feature {feature!r}; those "
            f"that encoders read are {list(known)}.{did_you_mean(feature, names)}"
        )
    numbers = known[feature]
    rows = Block(concrete=True)
    rows.chosen = Var(list(numbers), domain=Binary)
    rows.one = Constraint(expr=quicksum(rows.chosen.values()) == 1)
    rows.number = Var(bounds=(min(numbers.values()), max(numbers.values())))
    total = quicksum(x * rows.chosen[c] for c, x in numbers.items())
    rows.value = Constraint(expr=rows.number == total)
    return rows
