"""What regions are called: colour names, positions, attributes, phrases, rules of sentences.

The generator writes with it, the describer and the evaluation of words read with it.
"""
