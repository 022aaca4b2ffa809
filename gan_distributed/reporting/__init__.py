"""A run's folder as one page: reading it into plain records, figures, pictures, and the page itself.

reading   a run's folder -> Run: configuration, ticks, scores, events, names of grids
events    what happened to a run besides training: restarts, checkpoints, returns, changes
curves    runs -> Charts: series on shared axes, of bounded length
grids     sample grids of a run, as many and as sharp as a budget of bytes allows
dataset   what the data set says of itself, and what was refused
copies    real images beside generated ones, and the training images nearest to these (the only one with torch)
summary   a run in a few facts
sections  each part of the page, from these
page      parts, style and scripts in one HTML file
live      the same page over HTTP, made anew while a run goes on
"""
