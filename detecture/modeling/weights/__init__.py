"""How foreign weights come in, whatever the model: hub ids, folders, files, names, random ones."""
