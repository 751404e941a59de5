"""The steps of `xraysynth inspect`: options of the proposed study, what was seen, and its page."""
