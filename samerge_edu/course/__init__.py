"""The machinery of the notebooks: exercises that check themselves, quizzes, numbers with expected bands.

exercise.py   what an exercise and a quiz question consist of; bank/ holds them, one file a notebook
examine.py    does a function keep the laws of its exercise? if not: smallest failing case and likely mistake
slips.py      every program that differs from a solution in one place, and what to say about it
draws.py      other shapes and numbers for an exercise, drawn with a seed
limits.py     runs a learner's function so that it can neither hang the kernel nor eat the memory
doors.py      what is closed before the code of others runs: files, network, processes
verdicts.py   check, settle, hint: the three calls of a notebook, which print and never raise
progress.py   what is solved over all notebooks: a local file, if the learner asks for it
quizzes.py    quiz, answer
bands.py      show: a number with a tick if it lies in the band in which it was seen before
claims.py     claim: a sentence about an outcome, held to its recorded number
figures.py    figure, explore: pictures with the sentence that reads them; drawings/ draws them, one module a notebook
start.py      start, and the text of the setup cell that every notebook shares
capstone/     a method of one's own: handed in, merged alone, measured, ranked; template, rubric, three examples
lessons.py    where the notebooks are
classroom/    for those who teach: handout, grade, report (samerge-edu class)
reading_time.py  the minutes at the top of a lesson, counted
audit.py      proves the bank: reference passes, stub is TODO, every mistake gets its own hint
attack.py     attacks it: does some law notice every slip, and is the hint right?
"""
