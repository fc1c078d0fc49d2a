"""The page of a report: one HTML file without a network, made of strings; `irexp.stage.page` collects its content."""
