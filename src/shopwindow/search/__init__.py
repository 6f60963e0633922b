"""From words to photos: index, engine, service and page."""
