"""Is the place where models are kept, or come from, closed to those who have no business there?"""
