"""CLIP behind one interface: dense image features, text features, fine-tuning."""
