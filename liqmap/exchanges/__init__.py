"""What each venue says and how: tables plus pure parse functions."""
