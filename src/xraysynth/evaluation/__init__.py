"""What images are worth: measures of any two sets, encoders, and blinded readings.

`images.evaluate` is every measure in one call; `metrics` are pure functions on arrays, `encoders` turn
images into features, `reader_study` makes kits for readers and analyses their answers.

    >>> from xraysynth.evaluation.metrics.fidelity import fd_name
    >>> fd_name("inception"), fd_name("classifier")
    ('FID', 'FD(classifier)')

    from xraysynth.evaluation.images import evaluate, from_folder
"""

__all__ = ["encoders", "images", "metrics", "reader_study", "selftest"]
