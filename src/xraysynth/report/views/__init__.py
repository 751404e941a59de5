"""What the templates of the pages show: numbers as text, rows and sections, ready to be written down.

One module per section, one view per template; a template has loops, plain conditions and attributes,
and everything that is chosen, sorted, compared or formatted is so here.

    >>> from xraysynth.evaluation.metrics.statistics import Interval
    >>> from xraysynth.report.views.cells import score_cell
    >>> score_cell(Interval(0.031, 0.004, 0.058, 300), with_sign=True)
    Cell(text='+0.031', raw='0.031', interval='[0.004, 0.058]', note='')
"""
