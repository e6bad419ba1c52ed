"""Interactive pages and animations: each page is one HTML file, which needs neither a network nor another file."""
