"""Work in processes: locks, reserved folders, journals, commands run side by side."""
