"""The rounding of float64, which every margin of a bound is counted in."""

#: The distance from 1 to the next float64: twice what one operation may round by, relative
#: to its result.
EPS = 2.0**-52
