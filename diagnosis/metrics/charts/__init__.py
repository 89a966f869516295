"""Charts of an analysis: series with the band of the baseline, the onset and the events, as SVG, HTML and PNG."""
