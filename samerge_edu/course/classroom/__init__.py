"""What somebody needs who teaches with the notebooks.

handout.py   notebooks for a class: student and solution editions, or with nbgrader's cells
handed_in.py a notebook that was handed in: functions by their names, read without being run
alone.py     the process in which they are examined: doors closed, within limits
grade.py     a folder of notebooks -> a table and a page of feedback for each student
report.py    a table of grades -> a page about the class
before.py    what nbgrader would stumble over in a notebook, before it is handed in
cli.py       `samerge-edu class ...`
plans.py     three plans for a room as data (plans.toml), their minutes, and notebooks reduced to them
needs.py     which cells of a notebook others need: names that are set, changed and used
"""
