"""The capstone of notebook 13: a method of one's own is handed in, measured alone, and stands beside the others.

submission.py   what a file hands in; read without being run
alone.py        the process in which a submission merges: it has the experts, and no test image
ranking.py      measured at home and abroad, on images of an exam; the class's table
template.md, rubric.md   one page of report, and the points for it; examples/ has three, graded
"""
