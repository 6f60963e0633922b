"""From photos and competition files to a dataset on disk, and a drawn shop for those who have neither."""
