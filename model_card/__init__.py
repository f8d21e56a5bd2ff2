"""The cards' templates and the texts on limits and crises, as Markdown to read and to render."""
