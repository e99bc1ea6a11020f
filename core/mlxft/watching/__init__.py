"""What watches a run from beside it: trackers and notifications, each in a process of its own.

They read the journal, as every viewer does, so none of them can stop or slow a run.
"""
