"""Tuning: the search space and the Study: Optuna suggests, warm Ray actors train.

space/                              what is searched, checked before any worker starts
study, course, search, population,  the Study: which trial comes next, and when there is none
perturb, inherit, limits
samplers, schedulers, importance    the door to Optuna
ledger                              what happened, from which a killed Study goes on
jobs, job_maker, pool, hiring,      warm workers, how many there are, and what they are handed
places, workers, variants
best, pareto, page/                 what was found, as files and as a page
"""
