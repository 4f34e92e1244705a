from pyomo_relu.base.tables import aligned


def test_columns_are_aligned_and_no_line_ends_in_blanks():
    assert aligned([("a", "long head"), ("wider", "x"), ("y", "")]) == [
        "a      long head",
        "----------------",
        "wider  x",
        "y",
    ]
