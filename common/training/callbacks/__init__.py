"""What happens between steps: Keras callbacks."""
