"""A model leaves for other tools: transformers directory, GGUF file, Ollama model, Hub repository.

source.py finds out what the model is and where it comes from, template.py writes its prompt as a chat
template, card.py its model card; directory.py, weights.py, modelfile.py and hub.py write the four forms.
"""
