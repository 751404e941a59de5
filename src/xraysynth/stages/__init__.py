"""One short file per stage: a resolved configuration in, a result out."""
