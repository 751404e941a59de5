"""Blinded readings: the kits that radiologists answer, and the analysis of their answers.

Before a reading, `recipe` has the options, `protocol` the questions; `sample` draws the images,
`encoding` gives them one format, and `build` deals them to the kits of readers and to the answer `key`,
which stays with the owner; `kit` renders the page. After it, `exports` reads the answers that came back
and joins them with the key; `analysis` turns them into results by `detection`, `opinions` and
`agreement`, whose intervals take both readers and images as samples (`mrmc`); `sample_size` plans the
next reading, and `reading` keeps everything in a folder. `simulated_readers` are readers of known skill.

    >>> from xraysynth.evaluation.reader_study.protocol import build_questions
    >>> questions = build_questions(["origin", "confidence"], {}, ["normal", "covid19"])
    >>> [question.kind for question in questions]
    ['choice', 'scale']

Example:

    from xraysynth.evaluation.reader_study.analysis import analyse
    from xraysynth.evaluation.reader_study.exports import join_with_key, load_exports
    from xraysynth.evaluation.reader_study.key import AnswerKey

    key = AnswerKey.read(Path("owner/key.json"))
    answers = join_with_key(load_exports([Path("sent")], key), key)
    question_ids = [question.id for question in key.questions]
    analyse(answers, classes=key.classes, question_ids=question_ids).results
"""

__all__ = [
    "agreement",
    "analysis",
    "build",
    "detection",
    "encoding",
    "export_format",
    "export_rules",
    "exports",
    "jackknife",
    "key",
    "kit",
    "measures",
    "mrmc",
    "opinions",
    "panel",
    "protocol",
    "reading",
    "recipe",
    "results",
    "sample",
    "sample_size",
    "simulated_exports",
    "simulated_readers",
    "spread_posterior",
]
