"""Colors and manners of a report's plots."""

INK, MUTED, GRID = "#262a33", "#7a808c", "#e6e8ec"
BLUE, ORANGE, GREY, GREEN = "#2f6fde", "#d9822b", "#a9afba", "#1a8a54"
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    # Names of runs and protocols are no formulas.
    "text.parse_math": False,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "lewm",
}
