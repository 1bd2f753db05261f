"""Types that say how metrics are collected; the scraper reads their parameters.

Nothing here runs. Open `metrics.py` first.
"""
