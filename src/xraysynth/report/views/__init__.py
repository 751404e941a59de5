"""Views of the pages: numbers as text, rows and sections, ready for the templates.

There is one module per section and one view per template. A template has loops, plain conditions and
attributes only; everything that is chosen, sorted, compared or formatted is done in a view.

    >>> from xraysynth.evaluation.metrics.statistics import Interval
    >>> from xraysynth.report.views.cells import score_cell
    >>> score_cell(Interval(0.031, 0.004, 0.058, 300), with_sign=True)
    Cell(text='+0.031', raw='0.031', interval='[0.004, 0.058]', note='')
"""
