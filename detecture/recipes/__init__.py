"""How what ships is made: the stages of a recipe, the fitting of selectors, the packaging."""
