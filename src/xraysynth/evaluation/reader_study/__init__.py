"""The blinded reading: what radiologists are shown, what they answer, and what that says.

Before: `recipe` has the options, `protocol` the questions, `sample` draws the images, `encoding` makes
them alike, `build` deals them to readers' kits (`kit` is the page) and to the answer `key` that stays
with the owner. After: `exports` reads what came back and joins it with the key; `analysis` turns the
answers into results by `detection`, `opinion_results` and `encoder_agreement`, whose intervals take
readers and images as samples (`crossed`); `advice` plans the next reading, and `reading` keeps
everything in a folder. `simulate` has readers of known skill.

    >>> from xraysynth.evaluation.reader_study.protocol import build_questions
    >>> questions = build_questions(["origin", "confidence"], {}, ["normal", "covid19"])
    >>> [question.kind for question in questions]
    ['choice', 'scale']

    from xraysynth.evaluation.reader_study.analysis import analyse
    from xraysynth.evaluation.reader_study.exports import join, load
    from xraysynth.evaluation.reader_study.key import Key

    key = Key.read(Path("owner/key.json"))
    answers = join(load([Path("sent")], key), key)
    analyse(answers, classes=key.classes, asked=[question.id for question in key.questions]).results
"""

__all__ = [
    "advice",
    "analysis",
    "build",
    "crossed",
    "detection",
    "encoder_agreement",
    "encoding",
    "export_format",
    "export_rules",
    "exports",
    "jackknife",
    "key",
    "kit",
    "measures",
    "opinion_results",
    "panel",
    "protocol",
    "reading",
    "recipe",
    "results",
    "sample",
    "simulate",
]
