"""The experiment as one object, which the command line finds here."""

from dini_zoo.kit.experiment import Experiment

from . import picture, report, study

experiment = Experiment(
    settings=study.Settings,
    run=study.run,
    tables=report.tables,
    checks=report.checks,
    figure=picture.draw,
    headline=report.headline,
)
