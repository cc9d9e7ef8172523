"""Speed and size, each beside a reference of the same run where one exists."""
