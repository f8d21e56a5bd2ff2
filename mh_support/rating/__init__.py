"""Rating by people: blinded sets of replies, answers kept at once, and what the raters' numbers can carry."""
