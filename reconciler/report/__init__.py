"""Views of a plan and of a run; they compute nothing of their own."""
