"""The steps of a recipe, one file each, named as in a study: what a step does, needs and reaches, and its words."""
