"""Documents and connectors. This release serves no documents; the room keeps its place among the floors."""
