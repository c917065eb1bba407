"""
What may be concluded from rows: paired tests, intervals, corrections for several comparisons, power.

On scipy (the extra `stats`), which is imported when a figure is asked for. Values are shares or
scores in 0 to 1 unless a function says otherwise; a gain of ten points is 0.1.
"""
