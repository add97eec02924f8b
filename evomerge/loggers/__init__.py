"""Rows of a search for the pages where people already look: TensorBoard, trackio, Weights & Biases, MLflow."""
