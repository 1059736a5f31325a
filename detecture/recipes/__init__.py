"""How the shipped models are made: stages of a recipe, fitting of selectors, packaging."""
