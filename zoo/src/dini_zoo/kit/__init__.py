"""What every system of the zoo is built on.

| module | what it gives |
| --- | --- |
| `experiment` | `Experiment`: settings, run, tables, checks, picture and headline as one object; `perform` |
| `run` | `Run`: named random keys, phases with progress, memory of finished parts |
| `tables` | `Table`, `Check` and its bars, formats of times and sizes |
| `training` | `Trainer`: a scanned, compiled training loop, for one model or for many side by side |
| `seeds` | `Estimate`, `Paired`: one form of a mean, its interval, and a difference |
| `measure` | compiled programs, their memory, and their times in turns |
| `modes` | a derivative in several modes of differentiation: error, time, memory; central differences |
| `checking` | values of arguments: positive, finite, indices; errors that name them, NaN where they are traced |
| `hook`, `enforcing` | annotations of shapes, enforced where functions of the fields are called or traced |
| `data` | data sets that need no download, as samples and splits |
| `pictures` | one palette, one style, bands, bars, mosaics |
| `results` | a run's results as JSON |
| `repetitions` | an experiment again with other seeds: ranges of its figures |
| `registry`, `cli`, `pages`, `new` | finding systems, the command line, generated pages, a new system's skeleton |

Nothing here knows a system.
"""
