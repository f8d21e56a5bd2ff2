"""Learning from people: from feedback to a model that replaces the old one only if it is better and no less safe."""
