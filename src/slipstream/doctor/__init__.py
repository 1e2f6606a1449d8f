"""The doctor: symptoms, evidence, causes, fixes with a predicted gain, and how right it was."""
