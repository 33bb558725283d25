"""Right backprops written by hand, and the same with one line wrong: how good is the checker?"""
